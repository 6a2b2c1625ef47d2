"""Boxes: a YOLO network, or detections recorded in a file."""
