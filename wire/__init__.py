"""What both ends of a connection share: session core, identity, digests, bulk transfer."""
