"""An example of a package that adds pieces to convae."""
