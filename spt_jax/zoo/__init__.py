"""The models that come with the package. `catalogue.json` names them, `shelf` finds them."""
