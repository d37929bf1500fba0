"""Ray: session, resources, datasets, shared directories, and what is private in Ray."""
