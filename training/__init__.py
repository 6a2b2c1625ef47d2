"""Learning the appearance network. The run time never imports this package."""
