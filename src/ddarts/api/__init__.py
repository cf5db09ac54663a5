"""The public functions, one for each command: settings in, files in a folder and a result out."""
