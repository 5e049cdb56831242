// Long work in parts: between two of them the page lives, so that a large picture does not freeze it.

export const breathe = () => new Promise((go) => setTimeout(go));
