"""What each group of our training options does to a host's config; spider_plugin/config.py calls them in order."""
