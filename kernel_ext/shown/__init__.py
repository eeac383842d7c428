"""Forms of everything that is shown: plain text, static HTML, tables, the terminal's picture, and the words of all of them."""
