"""Shapes in signatures. They are documentation that tests check, so the model runs where jaxtyping is not installed."""

try:
    from jaxtyping import Array, Bool, Float, Int
except ModuleNotFoundError:
    from jax import Array

    class Float:
        """`Float[Array, "B L"]` is then simply an array."""

        def __class_getitem__(cls, item: object) -> type[Array]:
            return Array

    Bool = Int = Float

__all__ = ["Array", "Bool", "Float", "Int"]
