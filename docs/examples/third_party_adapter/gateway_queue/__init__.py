"""queue.example for the inference gateway."""

from gateway_queue.adapter import QueueAdapter
from gateway_queue.config import QueueConfig, QueueTarget

__all__ = ["QueueAdapter", "QueueConfig", "QueueTarget"]
