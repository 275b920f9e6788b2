"""gRPC servicers of control: one file a proto service. Each validates the request's shape, delegates, and converts."""
