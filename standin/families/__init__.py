"""The families of problems: each draws compositions, settles problems and answers them."""
