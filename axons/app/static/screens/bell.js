/** The bell: what has ended since one last looked. */

import { make } from "./base.js";

export function drawBell() {
  return make("span", {});
}
