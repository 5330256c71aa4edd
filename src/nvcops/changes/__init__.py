"""Changes: from the request over approval, freeze and validation to how they ended, and what that says of risk."""
