"""The rules by which picture files become pixels and labels, the same text in the plugin and in the reference host."""
