"""What people look at afterwards; it knows neither the network nor the engine."""
