"""The ops, one file each, with the public function, its reference and its shapes."""
