"""An output folder in a bucket: its lease, rows and images, mirrored from a scratch folder."""
