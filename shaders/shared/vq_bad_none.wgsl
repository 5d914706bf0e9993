fn note_bad() {}
