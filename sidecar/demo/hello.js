// GET /hello of the demo's app: what the app hears of who asks, and nothing that a client says of itself
module.exports = (request, response, next) => {
  if (request.path !== "/hello") return next();
  const { "remote-user": user, "remote-groups": groups, authorization } = request.headers;
  response.json({ user, groups, token: authorization ? "here" : "none" });
};
