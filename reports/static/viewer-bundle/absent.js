// Stands for codecs that plates do not use, so that the bundle does not carry them.
export default null;
