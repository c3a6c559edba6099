"""The promises of Leadline, held through its public doors."""
