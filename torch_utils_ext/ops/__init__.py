"""One file per op: the public function, its reference and its shapes."""
