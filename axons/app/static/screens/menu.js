/** The menu of the account: language, password, tokens, sign-out. */

import { make } from "./base.js";

export function drawMenu({ me }) {
  return make("span", {}, me.name);
}
