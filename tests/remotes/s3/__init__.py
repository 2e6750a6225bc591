"""Tests of sources in S3."""
