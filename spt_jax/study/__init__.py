"""The evaluation of the paper as a command: SPT, its experts and its competitors on one dataset, with error bars."""
