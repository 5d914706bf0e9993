// Further than any distance that is compared.
const FURTHEST = 3.4e38;
