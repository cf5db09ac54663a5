"""Settings: schema, layers, YAML files and presets."""
