// To come.

import { h, put } from "./dom.js";

export default function page(root) { put(root, h("h1", {}, "transform")); }
