"""The media process: packets and budget clocks. It knows nothing of money, tables or pages."""
