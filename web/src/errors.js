// What can go wrong. The message is one line that says what to do.

export class FacecodecError extends Error {}

/** The bytes are not a .fic file that this version reads. */
export class FormatError extends FacecodecError {}

/** A model is missing, damaged or of an unknown kind. */
export class ModelError extends FacecodecError {}

/** The picture is too large. */
export class ImageError extends FacecodecError {}
