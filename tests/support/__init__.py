"""What several folders of tests need: real servers, real mounts, readers in other processes."""
