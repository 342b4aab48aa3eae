"""What an auditor, who believes nothing, can show from what was captured."""
