// GET /hello of the demo's app: what the app hears of who asks, and nothing that a client says of itself
module.exports = (request, response, next) => {
  if (request.path !== "/hello") return next();
  const { "remote-user": user, "remote-groups": groups, "x-forwarded-email": email, authorization } = request.headers;
  response.json({ user, groups, email, token: authorization ? "here" : "none" });
};
