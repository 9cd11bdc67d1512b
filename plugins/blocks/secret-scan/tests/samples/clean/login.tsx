import { useState } from "react";
import { accessToken2Header, getAuthTokenFromStorageV2 } from "./auth";

export const PASSWORD_INPUT_TESTID = "login-form-password-input-v2";
const tokenKey = "acme.session.token.v1";
const mutation = gql`mutation ResetPassword($token: String!, $password: String!) { reset(token: $token) { ok } }`;
const jwtExample =
  "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";

export function Login() {
  const [password, setPassword] = useState("");
  const headers = { Authorization: `Bearer ${getAuthTokenFromStorageV2()}`, [accessToken2Header]: "1" };
  const id = { token: "123e4567-e89b-12d3-a456-426614174000", secret: undefined };
  return (
    <form data-token={id.token} onSubmit={() => fetch("/api/v1/token", { headers, method: "POST" })}>
      <label htmlFor="password">Password</label>
      <input id="password" type="password" autoComplete="current-password" value={password} />
      <img alt="" src="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg==" />
    </form>
  );
}
