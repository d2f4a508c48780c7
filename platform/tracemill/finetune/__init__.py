"""A split becomes a model: jobs as streams of events, trainers behind one protocol, a registry."""
