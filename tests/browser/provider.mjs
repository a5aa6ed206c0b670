// An OpenID provider that is not ours, with Cognito's paths and claims: node provider.mjs PORT CALLBACK
import { Provider } from 'oidc-provider';

const [port, callback] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const claims = (sub) => ({ sub, token_use: 'id', 'cognito:groups': ['user'], 'cognito:username': sub });

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'web',
    client_secret: 'known-to-the-client-alone',
    redirect_uris: [callback],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  routes: {
    authorization: '/oauth2/authorize',
    token: '/oauth2/token',
    revocation: '/oauth2/revoke',
    userinfo: '/oauth2/userInfo',
  },
  pkce: { required: () => true, methods: ['S256'] },
  claims: { openid: ['sub', 'token_use', 'cognito:groups', 'cognito:username'] },
  conformIdTokenClaims: false,
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { IdToken: 4, AccessToken: 4, AuthorizationCode: 60, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
  findAccount: async (context, id) => ({ accountId: id, claims: async () => claims(id) }),
  cookies: { keys: ['of this run alone'] },
});

provider.listen(Number(port), '127.0.0.1', () => console.log(`listening on ${issuer}`));
