"""What is searched: spaces, slots, supernets, subnets and what they cost. No I/O."""
