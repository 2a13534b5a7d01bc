"""The published recipes, as tables typed from the papers and their code."""
