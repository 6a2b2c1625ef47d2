"""What every page that this program serves needs: who may reach it, and what a stranger may take of it."""
