"""The tracker as a service: detections of other programs in, in any language, tracks out."""
