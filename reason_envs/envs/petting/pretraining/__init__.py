"""How the embedded model for the Petting environments was made."""
