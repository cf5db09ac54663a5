"""The commands around the main job, one module each: its public function and the record that it returns."""
