// Channels first: a site is a row of a channel.
fn start_of(view: vec4<u32>, plane: u32, site: u32) -> u32 {
  return view_at(view, plane / params.channels, plane % params.channels, site);
}
