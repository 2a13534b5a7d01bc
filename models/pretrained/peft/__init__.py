"""LoRA's factors <-> the files of peft, for any layout."""
