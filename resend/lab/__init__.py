"""The lab: an incident made from a seed, and the receivers that judge what was resent. Never part of a real run."""
