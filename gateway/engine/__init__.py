"""The only place with loops: dispatch, watch, recover."""
