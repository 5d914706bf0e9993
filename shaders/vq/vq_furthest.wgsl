// Further than any distance that is compared.
const FURTHEST = 3.4e38;
// What further ones are taken for.
const FAR = 3e38;
