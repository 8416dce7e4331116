"""What a mirror must survive: named traces and seeded walks over disks that fail."""
