"""Who chooses: virtual agents, their reward, and the planner that keeps every slot covered."""
