"""The version of convae."""

VERSION = "0.1.0"
