"""The Ray session, its resources and its shared directories."""
