"""Identities: Kalman filter, costs, assignment and the tracker that owns them."""
