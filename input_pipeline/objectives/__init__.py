"""What is made of a text: corruption, masking, sentences, packed rows."""
