/** A module worker: {rgba, height, width, size, token} in, {labels, count, token} out. */

import { superpixels } from "./superpixels.js";

onmessage = ({ data: { rgba, height, width, size, token } }) => {
  const labels = superpixels(rgba, height, width, size);
  const count = labels.reduce((most, label) => Math.max(most, label), -1) + 1;
  postMessage({ labels, count, token }, [labels.buffer]);
};
